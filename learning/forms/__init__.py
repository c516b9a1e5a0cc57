"""Forms of the learning app: text in, values out, and what is wrong in words."""
