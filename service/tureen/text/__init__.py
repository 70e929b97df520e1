"""From (prompt, context, response) to token ids and back to characters. Shared by training and serving."""
