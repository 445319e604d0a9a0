"""The DICOM receiver: associations, C-STORE, its limits, TLS and processes."""
