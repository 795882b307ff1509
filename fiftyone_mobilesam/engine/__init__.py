"""Where masks are made, known and booked: plain items in, plain outcomes out. Knows no FiftyOne, no COCO, no Ray."""
