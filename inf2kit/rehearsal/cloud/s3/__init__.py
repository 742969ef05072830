"""S3: moto's, with objects that are files and bucket policies that are looked at."""
