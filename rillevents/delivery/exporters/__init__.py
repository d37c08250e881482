"""One module for each kind of destination, and what they share."""
