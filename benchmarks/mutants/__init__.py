"""Small changes of the emulated kernel, built as one program with a switch, and what notices them."""
