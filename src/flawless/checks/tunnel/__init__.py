"""The tunnel as this machine sees it: independent observations, and what cloudflared is started with."""
