"""DICOM series: the files of a folder or archive, told apart, put in order, and read as one volume."""
