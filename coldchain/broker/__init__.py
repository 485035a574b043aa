"""The embedded MQTT broker: amqtt behind a gate of our own. Enough for a county; a province runs Mosquitto or EMQX."""
