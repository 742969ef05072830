"""Extensions of moto's S3: large objects in files, and bucket policies with conditions."""
