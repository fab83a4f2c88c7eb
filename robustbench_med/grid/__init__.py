"""From what was asked for to the cells of a grid."""
