"""The check on channel counts that the context modules share."""


def divide_channels(channels: int, divisor: int, name: str = "reduction") -> int:
    """Divide the channels of a map.

    Args:
        channels: C.
        divisor: what C is divided by.
        name: the argument that holds the divisor, for the message.

    Returns:
        C / divisor, at least 1.

    Raises:
        ValueError: C is not positive, or the divisor does not divide it.
    """
    check_channels(channels)
    if divisor < 1 or channels % divisor:
        raise ValueError(f"{name}={divisor} must be a divisor of channels={channels}")
    return channels // divisor


def check_channels(channels: int) -> None:
    """Raise ValueError where a map of so many channels cannot be."""
    if channels < 1:
        raise ValueError(f"channels={channels} must be at least 1")
