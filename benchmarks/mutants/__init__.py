"""Small changes of the emulated kernel, built as one program with a switch, and who notices them."""
