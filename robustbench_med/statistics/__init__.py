"""Statistics of images that come from patients: intervals, comparisons, corrections. Without torch and plugins."""
