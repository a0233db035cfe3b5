"""Where image bytes are kept: ``store.BlobStore``. Nothing is imported here: writers start fast."""
