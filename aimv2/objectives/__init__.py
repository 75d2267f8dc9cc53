"""Training objectives: a torch module with the network and the losses of each; ``aimv2.definitions`` lists them."""
