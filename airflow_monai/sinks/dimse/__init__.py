"""What the DICOM sink is made of: associations as a service class user, and what goes over them."""
