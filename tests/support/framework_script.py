"""The conversations that the agents of all frameworks have with the scripted model."""

from support.model import Call, Reply

PARIS = Call("call_1", "get_weather", ['{"ci', 'ty": "Par', 'is"}'])
ROME = Call("call_2", "get_weather", ['{"city": ', '"Rome"}'])
SCRIPT = {
    "hello": [Reply(["Hel", "lo ", "there."])],
    "my name is Ada": [Reply(["Noted, ", "Ada."])],
    "who am I": [Reply(["You are ", "Ada."])],
    "think": [Reply(["It is ", "four."], thoughts=["Let me ", "think."])],
    "weather in Paris": [Reply(["I look. "], calls=[PARIS]), Reply(["It is ", "sunny."])],
    "weather in both": [Reply(calls=[PARIS, ROME]), Reply(["Both are ", "sunny."])],
    "weather, then": [Reply(calls=[PARIS]), Reply(calls=[ROME]), Reply(["One by one."])],
    "break": [Reply(["Half a ", "word"], fails=True)],
    "slowly": [Reply(["tick "] * 400, pause=0.02)],
    "book": [Reply(calls=[Call("call_3", "book", ['{"city": "Rome"}'])]), Reply(["Done."])],
}
