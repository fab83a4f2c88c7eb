"""Files that are written whole or not at all, where they lie, and what they say of the machine that wrote them."""
