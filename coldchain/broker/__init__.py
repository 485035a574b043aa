"""Embedded MQTT broker: amqtt behind our own packet filter. Enough for a county; a province runs Mosquitto or EMQX."""
