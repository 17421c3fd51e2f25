"""What a user takes home: the bare model as code and weights, as an ONNX file, and a card that says what it is."""
