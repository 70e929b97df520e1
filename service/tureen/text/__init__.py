"""From (prompt, context, response) to token ids and back. Shared by training and serving."""
