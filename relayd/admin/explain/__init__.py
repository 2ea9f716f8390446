"""Why a player does or does not get through, in words."""
