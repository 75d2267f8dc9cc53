"""Training objectives: a torch module with the network and the losses of each; ``aimv2.spec`` lists them."""
