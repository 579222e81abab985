"""Documented request fields that are accepted and have no effect here, each with the reason."""

from __future__ import annotations

IGNORED: dict[str, str] = {
    "autoTruncate": "Text that is too long is refused, never cut.",
    "generationConfig.enableEnhancedCivicAnswers": "Models here have no such mode.",
    "generationConfig.mediaResolution": "Only text is read.",
    "generationConfig.modelSelectionConfig": "The model is the one that the path names.",
    "generationConfig.routingConfig": "The model is the one that the path names.",
    "generationConfig.thinkingConfig": "Models here do not think apart from their answer.",
    "labels": "The key, not the request, says who is asking.",
    "safetySettings": "No filters are between the model and its caller.",
    "store": "Nothing of a conversation is kept.",
    "taskType": "The embedding model has one mode.",
    "title": "The embedding model reads the text alone.",
    "toolConfig.functionCallingConfig.streamFunctionCallArguments": "Function calls are sent whole.",
    "toolConfig.includeServerSideToolInvocations": "This platform runs no tools itself.",
    "toolConfig.retrievalConfig": "This platform retrieves nothing itself.",
    "tools[].functionDeclarations[].behavior": "A function call always waits for its response.",
    "tools[].functionDeclarations[].response": "Describe what a function returns in its description.",
    "tools[].functionDeclarations[].responseJsonSchema": "Describe what it returns in its description.",
}
