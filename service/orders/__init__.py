"""Orders: accepted requests whose answers are fetched later. HTTP calls them jobs."""
