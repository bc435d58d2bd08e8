"""Topics, and the filters that clients subscribe with: `+` and `#`, as in MQTT 3.1.1 section 4.7."""
