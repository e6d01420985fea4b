"""The Gradio app. Reads traces, run records and engines; never trains."""
