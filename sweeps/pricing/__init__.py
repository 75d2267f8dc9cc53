"""What runs cost before they are started."""
