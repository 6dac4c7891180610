"""The only place for session state, caches and the address bar."""
