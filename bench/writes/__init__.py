"""Documents that come and go: how fast they are durable and found, and what searches meanwhile notice of it."""
