"""The HTTP side: intake of alerts, the agents' endpoints, the admin API and the console."""
