"""The words of the line, its clips, and the programs that make, derive and listen to them."""
