"""What gateways read from a request: body, parameters, origin."""
