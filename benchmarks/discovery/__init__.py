"""How quickly the cameras of a network are found, beside other programs that search."""
