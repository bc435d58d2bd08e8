"""The document as types of TypeScript."""
