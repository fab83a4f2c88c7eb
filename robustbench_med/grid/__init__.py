"""From the options of a run to the cells of a grid."""
