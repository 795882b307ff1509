"""Small networks on the decoder's tokens, fitted for the bundled weights: a better mask, and how good a mask is."""
