"""MQTT, by one adapter on paho."""
