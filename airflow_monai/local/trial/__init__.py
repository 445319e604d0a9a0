"""``airflow monai run``: one workflow on a folder of DICOM, without a scheduler, for whoever writes it."""
