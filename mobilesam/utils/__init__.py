"""The original's module names, so that code that imports from them works with another first word."""
