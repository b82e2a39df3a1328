// Holds the place of this suite until its first file lands.
