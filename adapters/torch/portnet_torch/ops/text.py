"""Strings: numpy object arrays that flow through the graph as Python objects."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_torch.functional import text
from portnet_torch.ops.registry import Walk, op


@op("StringConcat")
def _concat(walk: Walk, node: NodeView) -> Any:
    return walk.call(text.concat, *walk.inputs(node))


@op("StringSplit")
def _split(walk: Walk, node: NodeView) -> Any:
    result = walk.call(text.split, walk.value(node.required(0)), node.get("delimiter"), node.get("maxsplit"))
    return [result[0], result[1]]


@op("StringNormalizer")
def _normalize(walk: Walk, node: NodeView) -> Any:
    options = node["case_change_action"], bool(node.get("is_case_sensitive", 0)), node.get("stopwords")
    return walk.call(text.normalize, walk.value(node.required(0)), *options)


@op("RegexFullMatch")
def _regex_full_match(walk: Walk, node: NodeView) -> Any:
    return walk.call(text.full_match, walk.value(node.required(0)), node["pattern"])


@op("TfIdfVectorizer")
def _tfidf(walk: Walk, node: NodeView) -> Any:
    pool = node.get("pool_int64s") or node.get("pool_strings")
    grams = text.ngrams(pool, node["ngram_counts"], node["ngram_indexes"])
    lengths = node["min_gram_length"], node["max_gram_length"], node["max_skip_count"]
    weights = list(node["weights"]) if node.get("weights") else None
    return walk.call(text.tfidf, walk.value(node.required(0)), grams, *lengths, node["mode"], weights)


@op("ImageDecoder")
def _image_decoder(walk: Walk, node: NodeView) -> Any:
    return walk.call(text.decode_image, walk.value(node.required(0)), node["pixel_format"])
