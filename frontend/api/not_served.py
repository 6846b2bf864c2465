"""What the API has and this version does not serve; a request that asks for it is refused, never half obeyed.

Paths are those of a create body with indices left out: `tools[].async`. A test holds these tables and the request types
together against the newest `openai` package, so that nothing the API knows falls between them.
"""

from collections.abc import Mapping
from typing import Final

FIELDS: Final[Mapping[str, str]] = {
    "access_programs": "Access programs belong to OpenAI's own service.",
    "background_options": "Background responses are not served by this version.",
    "context_management": "Context management is not served by this version; send the items the model is to see.",
    "image": "Image context options belong to OpenAI's own models.",
    "input[].async": "Asynchronous calls are not served by this version.",
    "input[].caller": "Programmatic tool calling is not served by this version.",
    "input[].content[].file_id": "There is no files endpoint; send the image in 'image_url'.",
    "input[].content[].prompt_cache_breakpoint": "Prefixes are cached without breakpoints; leave it out.",
    "input[].encrypted_content": "Encrypted reasoning can't be read by this version; send 'content' instead.",
    "input[].namespace": "Namespaces of tools are not served by this version.",
    "input[].output[].file_id": "There is no files endpoint; send the image in 'image_url'.",
    "input[].output[].prompt_cache_breakpoint": "Prefixes are cached without breakpoints; leave it out.",
    "moderation": "Moderation is not served.",
    "prompt": "Prompt templates are not served; send 'instructions' and 'input'.",
    "prompt_cache_options": "Prefixes are cached without options; leave it out.",
    "reasoning.context": "Which reasoning is kept is not a choice here: all that 'input' holds is.",
    "reasoning.generate_summary": "Reasoning summaries are not served by this version.",
    "reasoning.mode": "Reasoning modes belong to OpenAI's own models.",
    "tools[].allowed_callers": "Programmatic tool calling is not served by this version.",
    "tools[].async": "Asynchronous calls are not served by this version.",
    "tools[].defer_loading": "Tools are always loaded; deferred loading is not served by this version.",
    "tools[].output_schema": "Output schemas are not served by this version.",
}
"""Field path -> why it is refused. An explicit null or false asks for nothing and passes."""

_ITEM = "this server takes messages, reasoning, function_call, function_call_output and item_reference items"
_TOOL = "this server serves tools of type 'function'"

VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "include[]": {"reasoning.encrypted_content": "reasoning can't be encrypted by this version"},
    "input[].content[].type": {"input_file": "files are not read by this version; send their text as input_text"},
    "input[].output[].type": {"input_file": "files are not read by this version; send their text as input_text"},
    "input[].type": dict.fromkeys(
        """additional_tools apply_patch_call apply_patch_call_output code_interpreter_call compaction compaction_trigger
        computer_call computer_call_output configuration_update custom_tool_call custom_tool_call_output
        file_search_call image_generation_call local_shell_call local_shell_call_output
        mcp_approval_request mcp_approval_response mcp_call mcp_list_tools program program_output shell_call
        shell_call_output tool_search_call tool_search_output web_search_call""".split(),
        _ITEM,
    ),
    "prompt_cache_retention": {"24h": "the prefix cache lives in memory; send 'in_memory' or leave it out"},
    "reasoning.effort": {"max": "the highest effort here is 'xhigh'"},
    "reasoning.summary": dict.fromkeys(
        ("concise", "detailed"), "no summaries are written by this version; with 'auto' there will be none"
    ),
    "service_tier": dict.fromkeys(
        ("fast", "scale", "ultrafast"), "the tiers here are 'auto', 'default', 'flex' and 'priority'"
    ),
    "tool_choice.tools[].type": dict.fromkeys(("custom", "mcp"), _TOOL),
    "tools[].type": dict.fromkeys(("custom", "mcp", "namespace"), _TOOL),
}
"""Field path -> value of the API -> why it is refused."""

HOSTED_TOOLS: Final = frozenset(
    """apply_patch code_interpreter computer computer_use_preview file_search image_generation local_shell
    programmatic_tool_calling shell tool_search web_search web_search_2025_08_26 web_search_preview
    web_search_preview_2025_03_11""".split()
)
"""Tools that OpenAI's own service runs. Clients send them by default, so they are accepted and kept from the model."""
