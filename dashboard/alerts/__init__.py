"""Rules about what shelves and devices are like, and whom to tell: webhook, e-mail, MQTT."""
