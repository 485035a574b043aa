"""MQTT client, built on paho."""
