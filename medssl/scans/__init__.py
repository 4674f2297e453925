"""From a folder of image files to crops in memory. The only room that reads image files; needs no torch."""
