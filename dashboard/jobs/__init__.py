"""What the worker thread does; no Streamlit here."""
