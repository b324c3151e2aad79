#!/usr/bin/env python3
"""Runs the public ONNX checker, shape inference included, on every .onnx file of a folder: check_onnx.py FOLDER

Needs the package onnx (Debian: python3-onnx).
"""
import pathlib
import sys

import onnx

files = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
bad = 0
for file in files:
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except Exception as error:  # the checker has several kinds
        bad += 1
        print(f"{file.name}: {error}")
print(f"onnx {onnx.__version__}: {len(files)} files, {bad} refused")
sys.exit(1 if bad or not files else 0)
