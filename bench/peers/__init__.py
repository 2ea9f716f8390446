"""What is measured: relayd, what people would use instead, and the direct path. All get the same load."""
