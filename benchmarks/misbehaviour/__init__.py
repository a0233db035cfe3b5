"""Each way a camera can misbehave, against each protocol we speak."""
