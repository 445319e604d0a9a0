"""What sinks that call HTTP services share: addresses, logins, DICOMweb."""
