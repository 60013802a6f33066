"""The post: what the outbox holds is put into words, and carried to whom it is for."""
