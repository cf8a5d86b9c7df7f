"""Contract suites for members of the families, shipped so that members elsewhere can be held to them too.

Each module holds one suite as a class; a test module subclasses it and says which member is meant:

    from midstream.testing.faults import FaultContract

    class TestMyFault(FaultContract):
        fault = "my-fault"

The suites need pytest. `midstream.testing.wire` holds helpers for tests of wire formats.
"""
