"""FLOPs, parameters and activation memory of a run, in closed form. A multiply and an add are 2 FLOPs; norms,
activations and softmax are left out."""
